"""The parts of the mini checkpoint, each trained by one function; see ../build_mini_checkpoint.py."""
