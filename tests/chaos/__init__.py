"""Kill it, and compare with what an undisturbed run says."""
