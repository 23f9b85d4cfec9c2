/** What the pack adds to ComfyUI's page. */
import { app } from "../../scripts/app.js";
import { listen } from "./api.js";

app.registerExtension({
  name: "dspostudio.lora",
  setup() {
    // A LoRA that has just been trained can be chosen in every loader without a reload of the page.
    listen("lora_saved", async ({ name }) => {
      await app.refreshComboInNodes();
      app.extensionManager?.toast?.add({
        severity: "success",
        summary: "DSPO Studio",
        detail: name,
        life: 5000,
      });
    });
  },
});
