"""Questions about events: media, prompts, and who answers them."""
