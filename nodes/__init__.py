"""ComfyUI's side: schemas and translation. What is computed is computed in `dspo_train`."""
