"""Conversations: messages kept in step between devices, and an assistant that answers them."""
