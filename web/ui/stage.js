/** Two images to choose from, zoomed and panned together, alternating in one place, or under a slider. */
import { spanIn, stacks } from "../core/layout.js";
import { panBy, toggled, transformOf, WHOLE, wheelFactor, zoomAt } from "../core/zoom.js";
import { t } from "../texts.js";
import { h, stillness } from "./dom.js";
import { stillUntilMoved } from "./still.js";

const SIDES = ["left", "right"];
const SWAP_MS = 333; // three images per second: below the three flashes per second that WCAG 2.3.1 allows
const DRAG_PX = 6;
const GAP_PX = 14; // as in voting.css

export class Stage {
  view = WHOLE;
  flicker = null; // the side shown while flickering
  stacked = false;
  #frames = {};
  #pointers = new Map();
  #dragged = false;
  #timer = 0;
  #at = [0.5, 0.5]; // the pointer, in shares of the frame

  /** `choose(side)` is called for a click, a tap, Enter or Space on an image; `turned()` when it stacks or no more. */
  constructor(choose, turned = () => {}) {
    Object.assign(this, { choose, turned });
    this.caption = h("p", { class: "dspo-stage-caption", hidden: true });
    const frames = SIDES.map((side) => this.#frame(side));
    const range = { type: "range", min: 0, max: 100, step: 1, value: 50 };
    this.divider = h("input", {
      ...range,
      class: "dspo-divider",
      "aria-label": t("stageDivider"),
      hidden: true,
      oninput: () => this.#slide(),
    });
    this.root = h(
      "div",
      { class: "dspo-stage", role: "group", "aria-label": t("voteOn"), tabindex: -1 },
      frames,
      this.caption,
      this.divider,
    );
    this.rest = stillUntilMoved(this.root);
    this.observer = new ResizeObserver(() => this.#arrange());
    this.observer.observe(this.root);
  }

  destroy() {
    this.stopFlicker();
    this.observer.disconnect();
  }

  /** Side by side or stacked, whichever makes the images larger. */
  #arrange() {
    const { box, shape } = this.#sizes();
    if (!shape.width || !box.width) return;
    if (this.sliding) this.#slide();
    const stacked = stacks(box, shape, GAP_PX);
    if (stacked === this.stacked) return;
    this.stacked = stacked;
    this.root.classList.toggle("stacked", stacked);
    for (const side of SIDES) this.#frames[side].parentElement.setAttribute("aria-label", this.#label(side));
    this.turned();
  }

  #sizes() {
    const image = this.root.querySelector("img");
    const shape = { width: image?.naturalWidth, height: image?.naturalHeight };
    return { box: this.root.getBoundingClientRect(), shape };
  }

  /** What a side is called where it stands now. */
  nameOf(side) {
    return t(this.stacked ? { left: "top", right: "bottom" }[side] : side);
  }

  #label(side) {
    const beside = { left: "chooseLeft", right: "chooseRight" };
    return t((this.stacked ? { left: "chooseTop", right: "chooseBottom" } : beside)[side]);
  }

  #frame(side) {
    const label = this.#label(side);
    const screen = h("span", { class: "dspo-screen" });
    const frame = h("button", { type: "button", class: `dspo-choice ${side}`, "aria-label": label }, screen);
    this.#frames[side] = screen;
    frame.addEventListener("click", (event) => {
      const looking = this.#dragged || this.flicker || this.sliding;
      if (!looking && event.detail <= 1) this.choose(side); // a double click votes once
    });
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    frame.addEventListener("pointermove", (event) => this.#move(event));
    for (const type of ["pointerup", "pointercancel"])
      frame.addEventListener(type, (event) => this.#pointers.delete(event.pointerId));
    frame.addEventListener("pointerleave", () => (this.#at = [0.5, 0.5]));
    return frame;
  }

  /** Show the images of a question, zoomed out; null clears the stage. */
  show(images) {
    this.stopFlicker();
    this.stopSlider();
    for (const side of SIDES) {
      const image = images?.[side];
      const broken = image?.dataset.broken && h("span", { class: "dspo-broken" }, t("imageBroken"));
      this.#frames[side].replaceChildren(...(broken ? [broken] : image ? [image] : []));
      this.#frames[side].parentElement.disabled = !image || Boolean(images.broken);
    }
    this.#look(WHOLE);
    this.rest();
    this.#arrange();
  }

  #look(view) {
    this.view = view;
    this.root.classList.toggle("zoomed", view.scale > 1);
    for (const image of this.root.querySelectorAll("img")) image.style.transform = transformOf(view);
    if (this.sliding) this.#slide();
  }

  zoomBy(factor) {
    this.#look(zoomAt(this.view, factor, ...this.#at));
  }

  pan(dx, dy) {
    this.#look(panBy(this.view, dx, dy));
  }

  toggleZoom() {
    this.#look(toggled(this.view, ...this.#at));
  }

  #share(event) {
    const box = event.currentTarget.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #wheel(event) {
    if (event.ctrlKey && event.deltaY === 0) return;
    event.preventDefault();
    event.stopPropagation();
    this.#look(zoomAt(this.view, wheelFactor(event), ...this.#share(event)));
  }

  #down(event) {
    if (event.button) return;
    if (!this.#pointers.size) this.#dragged = false;
    this.#pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }

  #move(event) {
    this.#at = this.#share(event);
    if (this.sliding && event.buttons & 1 && this.view.scale === 1) {
      const { left, width } = this.#span();
      this.divider.value = (100 * (this.#at[0] * this.root.clientWidth - left)) / width;
      return this.#slide();
    }
    const from = this.#pointers.get(event.pointerId);
    if (!from) return;
    const [dx, dy] = [event.clientX - from[0], event.clientY - from[1]];
    const moving = this.#dragged || Math.hypot(dx, dy) > DRAG_PX;
    if (!moving || (this.view.scale === 1 && this.#pointers.size < 2)) return;
    if (!this.#dragged) event.currentTarget.setPointerCapture(event.pointerId);
    this.#dragged = true;
    const box = event.currentTarget.getBoundingClientRect();
    if (this.#pointers.size >= 2) this.#pinch(event, from, box);
    else this.#look(panBy(this.view, dx / box.width, dy / box.height));
    this.#pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }

  #pinch(event, from, box) {
    const [, other] = [...this.#pointers].find(([id]) => id !== event.pointerId);
    const span = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
    const here = [event.clientX, event.clientY];
    const middle = [(here[0] + other[0]) / 2 - box.left, (here[1] + other[1]) / 2 - box.top];
    this.#look(zoomAt(this.view, span(here) / span(from), middle[0] / box.width, middle[1] / box.height));
  }

  /** F: alternate both in one place. With reduced motion, each call advances by hand: left, right, off. */
  toggleFlicker() {
    this.stopSlider();
    if (this.flicker && (!stillness() || this.flicker === "right")) return this.stopFlicker();
    if (this.flicker) return this.#flick("right");
    this.#flick("left");
    if (!stillness()) this.#timer = setInterval(() => this.#flick(this.flicker === "left" ? "right" : "left"), SWAP_MS);
  }

  #flick(side) {
    this.flicker = side;
    this.root.dataset.flicker = side;
    this.caption.hidden = false;
    this.caption.textContent = t("flickerShows", { side: this.nameOf(side) });
  }

  get sliding() {
    return this.root.dataset.slider !== undefined;
  }

  /** C: both in one place, the one left of a divider and the other right of it. */
  toggleSlider() {
    if (this.sliding) return this.stopSlider();
    this.stopFlicker();
    this.root.dataset.slider = "";
    this.divider.hidden = false;
    this.divider.value = 50;
    this.#slide();
    this.divider.focus();
  }

  /** The divider runs over the images, or over all of the stage where they are zoomed. */
  #span() {
    const { box, shape } = this.#sizes();
    return this.view.scale > 1 || !shape.width ? { left: 0, width: box.width } : spanIn(box, shape);
  }

  #slide() {
    const { left, width } = this.#span();
    this.root.style.setProperty("--dspo-cut", `${left + (width * this.divider.value) / 100}px`);
    this.divider.style.left = `${left}px`;
    this.divider.style.width = `${width}px`;
  }

  stopSlider() {
    if (!this.sliding) return;
    delete this.root.dataset.slider;
    this.divider.hidden = true;
    this.root.focus();
  }

  stopFlicker() {
    clearInterval(this.#timer);
    this.flicker = null;
    delete this.root.dataset.flicker;
    this.caption.hidden = true;
  }
}
