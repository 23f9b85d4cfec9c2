"""DSPO Studio for ComfyUI. Nothing else is imported until ComfyUI asks for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes.extension import DspoStudio

    return DspoStudio()
