const [left, right] = document.querySelectorAll(".wipe img");
const at = document.getElementById("at");
const show = (image, select) => {
  const picture = document.getElementById(select.value);
  image.src = picture.src; image.alt = picture.alt;
};
for (const [image, name] of [[left, "left"], [right, "right"]]) {
  const select = document.getElementById(name);
  select.addEventListener("change", () => show(image, select));
  show(image, select);
}
at.addEventListener("input", () => left.parentElement.style.setProperty("--at", at.value + "%"));
