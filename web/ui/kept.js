/** What this browser remembers of how a person left the page; all works without, where nothing can be stored. */

export function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function keep(key, text) {
  try {
    localStorage.setItem(key, text);
  } catch {
    // a full or forbidden store: it holds until the page is closed
  }
}

/** Values by name, all under one key: {of(name), set(name, value)}. */
export function kept(key) {
  const all = () => {
    try {
      return JSON.parse(recall(key) ?? "{}") ?? {};
    } catch {
      return {};
    }
  };
  return { of: (name) => all()[name], set: (name, value) => keep(key, JSON.stringify({ ...all(), [name]: value })) };
}
