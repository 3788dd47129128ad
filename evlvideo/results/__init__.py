"""What is kept on disk: run directories, predictions, results, and where they came from."""
