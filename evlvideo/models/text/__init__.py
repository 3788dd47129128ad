"""What stands around a caption: layouts, chat templates, BOS and EOS tokens."""
