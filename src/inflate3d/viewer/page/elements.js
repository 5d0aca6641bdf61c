// Small helpers for elements of the page. Text is always set as text, never as HTML.

export function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

export function show(node, shown) {
  node.hidden = !shown;
}
