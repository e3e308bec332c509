"""What language models are asked and what they answered: prompts out, readings back."""
