"""Pictures of what happened, and the page about outputs and all that they were made from."""
