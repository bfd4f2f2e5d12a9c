"""What stands on the library: demo, street scenes, benchmark, tables, and what the scripts in ``tools/`` do."""
