"""What an identifier contributes to a person; what `profile` is made of."""
