// Before the first paint: the theme that the viewer chose, else the system's.
"use strict";
(function () {
    let chosen = null;
    try { chosen = localStorage.getItem("theme"); } catch (_) { /* no storage: the system's */ }
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
