"""What we are compared with; these modules run in environments of their own."""
