"""What a reader sees first: the answers to the papers' questions, and one page that holds everything of a tier."""
