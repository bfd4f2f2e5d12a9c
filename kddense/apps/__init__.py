"""What stands on the library: demo, street scenes, benchmark."""
