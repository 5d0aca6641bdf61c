"use strict";
const setup = JSON.parse(document.getElementById("setup").textContent);
async function fetchBytes(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.arrayBuffer();
}
showScan(document.getElementById("viewer"), setup, fetchBytes);
