const PART = 1 << 20;  // a message must stay below what the notebook server takes

function render({ model, el }) {
  const area = document.createElement("label");
  const text = document.createElement("span");
  const input = document.createElement("input");
  area.className = "cma-drop-area";
  text.setAttribute("role", "status");
  input.type = "file";
  input.accept = model.get("suffixes").join(",");
  input.setAttribute("aria-label", "search by a picture or clip");
  const say = () => { text.textContent = model.get("message"); };
  model.on("change:message", say);
  say();

  async function send(file) {
    if (!file) return;
    if (file.size > model.get("most") * 1e6) {
      text.textContent = `${file.name}: ${Math.round(file.size / 1e6)} MB, at most ${model.get("most")}`;
      return;
    }
    text.textContent = `reading ${file.name} …`;
    const parts = Math.max(1, Math.ceil(file.size / PART));
    for (let part = 0; part < parts; part++) {
      const bytes = await file.slice(part * PART, (part + 1) * PART).arrayBuffer();
      model.send({ name: file.name, part, parts }, undefined, [bytes]);
    }
  }
  input.addEventListener("change", () => { send(input.files[0]); input.value = ""; });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    area.addEventListener(kind, (event) => {
      event.preventDefault();
      event.stopPropagation();
      area.classList.toggle("cma-over", kind === "dragenter" || kind === "dragover");
      if (kind === "drop") send(event.dataTransfer.files[0]);
    });
  }
  area.append(text, input);
  el.append(area);
}
export default { render };
