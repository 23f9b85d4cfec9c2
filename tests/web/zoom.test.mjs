import assert from "node:assert/strict";
import { test } from "node:test";
import { stacks } from "../../web/core/layout.js";
import { LARGEST, panBy, toggled, transformOf, wheelFactor, WHOLE, zoomAt } from "../../web/core/zoom.js";

/** The content point under a frame point. */
const under = ({ scale, x, y }, px, py) => [x + (px - 0.5) / scale, y + (py - 0.5) / scale];
const close = (a, b) => a.forEach((value, n) => assert.ok(Math.abs(value - b[n]) < 1e-9, `${a} ${b}`));

test("what lies under the pointer stays there", () => {
  const start = zoomAt(WHOLE, 2, 0.3, 0.6);
  close(under(start, 0.3, 0.6), [0.3, 0.6]);
  close(under(zoomAt(start, 1.7, 0.4, 0.4), 0.4, 0.4), under(start, 0.4, 0.4));
});

test("the frame is always full of image", () => {
  let view = zoomAt(WHOLE, 4, 0.9, 0.1);
  for (const [dx, dy] of [
    [5, 5],
    [-9, 3],
    [0.1, -7],
  ]) {
    view = panBy(view, dx, dy);
    for (const [px, py] of [
      [0, 0],
      [1, 1],
    ])
      assert.ok(under(view, px, py).every((value) => value >= -1e-9 && value <= 1 + 1e-9));
  }
});

test("a drag by half a frame at double size moves a quarter of the image", () => {
  const view = panBy({ scale: 2, x: 0.5, y: 0.5 }, 0.25, -0.5);
  close([view.x, view.y], [0.375, 0.75]);
});

test("zoom ends at the whole image and at the largest scale", () => {
  assert.deepEqual(zoomAt(zoomAt(WHOLE, 3, 0, 0), 0.01), { scale: 1, x: 0.5, y: 0.5 });
  assert.equal(zoomAt(WHOLE, 1000).scale, LARGEST);
});

test("Z goes close and back", () => {
  const near = toggled(WHOLE, 0.5, 0.5);
  assert.equal(near.scale, 3);
  assert.deepEqual(toggled(near), WHOLE);
});

test("the transform of the middle at double size", () => {
  assert.equal(transformOf(WHOLE), "none");
  assert.equal(transformOf({ scale: 2, x: 0.5, y: 0.5 }), "translate(-50.0000%, -50.0000%) scale(2.0000)");
});

test("the wheel: up is closer, back is exactly back, lines and pixels agree roughly", () => {
  assert.ok(wheelFactor({ deltaY: -100 }) > 1.2 && wheelFactor({ deltaY: -100 }) < 1.3);
  assert.ok(Math.abs(wheelFactor({ deltaY: -100 }) * wheelFactor({ deltaY: 100 }) - 1) < 1e-12);
  assert.ok(Math.abs(wheelFactor({ deltaY: 3, deltaMode: 1 }) / wheelFactor({ deltaY: 100 }) - 1) < 0.01);
  assert.ok(wheelFactor({ deltaY: -1e6 }) < 2);
});

test("images stand as they are larger: two squares in an upright window above each other", () => {
  const square = { width: 512, height: 512 };
  assert.equal(stacks({ width: 400, height: 900 }, square, 10), true);
  assert.equal(stacks({ width: 900, height: 400 }, square, 10), false);
  assert.equal(stacks({ width: 780, height: 800 }, { width: 1216, height: 832 }, 10), true);
  assert.equal(stacks({ width: 780, height: 800 }, { width: 832, height: 1216 }, 10), false);
});
