// Pictures enlarge: a click, or Enter on one that has the focus, shows it as large as the window; Escape closes it.
(() => {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  document.querySelectorAll(".gallery img, .strips img, figure.recon img").forEach(picture => {
    const show = () => { dialog.replaceChildren(picture.cloneNode()); dialog.showModal(); };
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.addEventListener("click", show);
    picture.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); show(); } });
  });
})();
