"""The processes of one training: how they meet, what they exchange, who notices a loss."""
