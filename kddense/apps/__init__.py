"""What stands on the library: demo, street scenes, benchmark, measurements, and what the scripts in ``tools/`` do."""
