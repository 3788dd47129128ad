"""Where the bytes of an image or video are: in a file of its own, or in a tar shard."""
