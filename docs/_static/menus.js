// The theme listens to the first button for each menu alone, which stands in a header that is hidden.
document.addEventListener("DOMContentLoaded", () => {
  for (const menu of [".primary-toggle", ".secondary-toggle"]) {
    const [first, ...others] = document.querySelectorAll(menu);
    for (const button of others) button.addEventListener("click", () => first.click());
  }
});
