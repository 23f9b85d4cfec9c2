/** The only file that knows how ComfyUI's page reaches its server. */
import { api } from "../../scripts/api.js";

/** Call `heard(detail)` for every event of ours with this name, such as "lora_saved". */
export function listen(name, heard) {
  api.addEventListener(`dspo.${name}`, (event) => heard(event.detail));
}
