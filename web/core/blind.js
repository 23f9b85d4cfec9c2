/** What is particular about blind tests. */

/** node.properties' entry with the name of the test that the node made last; a workflow keeps it. */
export const TEST = "dspo_blind";

/** Keep what the node's own output says, {dspo_blind: [name]}. */
export function remember(node, output) {
  const name = output?.[TEST]?.[0];
  if (name) (node.properties ??= {})[TEST] = name;
}

/** The name of the node's test if the server still has it among `sets`, else null. Other nodes' tests never count. */
export function testOf(node, sets) {
  const name = node.properties?.[TEST];
  return sets.some(({ place, set }) => place === "blind" && set === name) ? name : null;
}

/** Whether a person may choose the other picture afterwards: a blind test's votes count as they were given. */
export const changeable = (place, { status }) => place !== "blind" && status === "counts";
