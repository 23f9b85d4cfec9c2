"""ComfyUI's side: schemas and translation. All computation is in `dspo_train`."""
