"""What is built from ComfyUI's own parts."""
