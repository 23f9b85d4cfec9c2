/** A question is on a pair, {pair, group, prompt, left, right}, or on a whole group, {group, prompt, images}. */

/** What names it to the server. */
export const keyOf = ({ pair, group }) => pair ?? group;

export const isGrid = (question) => Boolean(question?.images);
