/** Hover frames wait for a hand: the pointer that rests where the last click was points at nothing. */

const MOVED_PX = 2;

/** Returns a function that marks `root` as "still" until the pointer moves over it. */
export function stillUntilMoved(root) {
  let from = null;
  root.addEventListener("pointermove", ({ clientX, clientY }) => {
    from ??= [clientX, clientY]; // a browser also reports a move when the page changes under a resting pointer
    if (Math.hypot(clientX - from[0], clientY - from[1]) > MOVED_PX) root.classList.remove("still");
  });
  return () => {
    from = null;
    root.classList.add("still");
  };
}

/** Call `act` once what was just inserted is on the screen: after the frame that paints it. */
export function afterPaint(act) {
  requestAnimationFrame(() => requestAnimationFrame(act));
}
