"""Video files: which frames they show, which of them are sampled, and how they are decoded."""
