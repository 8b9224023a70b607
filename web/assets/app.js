// What a page does by itself: shows what has changed, keeps relative times current, and knows keys.
// Without it every page and every button still works.
"use strict";
(function () {
    const $ = (id) => document.getElementById(id);
    const remember = (name, value) => { try { localStorage.setItem(name, value); } catch (_) { /* no storage */ } };
    const remembered = (name) => { try { return localStorage.getItem(name); } catch (_) { return null; } };

    // ---- live: one stream while somebody looks, none while the page is hidden --------------------

    let stream = null;
    let wasLost = false;

    function open() {
        const topic = document.body.dataset.live;
        if (stream || !topic || document.hidden) return;
        stream = new EventSource("/live?" + topic);
        stream.onmessage = (event) => { found(); event.data.split("\x1e").forEach(replace); };
        stream.addEventListener("lost", (event) => lose("The server does not answer: " + event.data));
        stream.addEventListener("back", () => location.reload());
        stream.onerror = () => {
            // Closed for good: the session has ended, or the dashboard; the browser itself tries again otherwise.
            lose("The dashboard does not answer.");
            if (stream.readyState === EventSource.CLOSED) { close(); setTimeout(reenter, 2000); }
        };
        stream.onopen = () => { if (document.body.dataset.live !== "page=away") found(); };
    }

    function close() {
        if (stream) stream.close();
        stream = null;
    }

    // A session that has ended leads to the login page; a dashboard that is away is asked again.
    function reenter() {
        fetch("/live?page=ask", { method: "HEAD" }).then(
            (answer) => (answer.status === 401 ? location.reload() : open()),
            () => setTimeout(reenter, 2000));
    }

    function lose(text) {
        wasLost = true;
        $("lost").textContent = text.replace(/\.?\s*$/, ". What you see is from before.");
        $("lost").hidden = false;
    }

    function found() {
        if (!wasLost) return;
        wasLost = false;
        $("lost").hidden = true;
    }

    // Focus stays where it was: on the element with the same place in the piece.
    function replace(piece) {
        const cut = piece.indexOf("\x1f");
        const element = $(piece.slice(0, cut));
        if (!element) return;
        const html = piece.slice(cut + 1);
        if (element.dataset.html === undefined && element.innerHTML === html) return;
        const focusable = "a, button, input, summary, [tabindex]";
        const at = element.contains(document.activeElement)
            ? Array.from(element.querySelectorAll(focusable)).indexOf(document.activeElement) : -1;
        element.innerHTML = html;
        if (window.htmx) htmx.process(element);
        if (at >= 0) {
            const again = element.querySelectorAll(focusable)[at];
            if (again) again.focus({ preventScroll: true });
        }
        tick();
    }

    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", open);

    // ---- times -----------------------------------------------------------------------------------

    function span(s) {
        if (s < 119.5) return Math.max(0, Math.round(s)) + " s";
        if (s < 7170) return Math.round(s / 60) + " min";
        if (s < 172000) return Math.round(s / 3600) + " h";
        return Math.round(s / 86400) + " d";
    }

    function tick() {
        const now = Date.now() / 1000;
        for (const time of document.querySelectorAll("time")) {
            const at = Number(time.dataset.at || time.dataset.since);
            let text = span(Math.abs(now - at));
            if (time.dataset.at) text = at - now > 0.5 ? "in " + text : text + " ago";
            if (time.textContent !== text) time.textContent = text;
            if (!time.dateTime) {
                time.dateTime = new Date(at * 1000).toISOString();
                time.title = new Date(at * 1000).toLocaleString() + " (" + time.title + ")";
            }
        }
    }
    setInterval(() => { if (!document.hidden) tick(); }, 1000);

    // ---- theme -----------------------------------------------------------------------------------

    const themes = ["system", "dark", "light"];

    function showTheme() {
        const theme = document.documentElement.dataset.theme || "system";
        if ($("theme")) $("theme").textContent = { system: "Theme: system", dark: "Theme: dark", light: "Theme: light" }[theme];
    }

    function nextTheme() {
        const root = document.documentElement;
        const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % 3];
        if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
        remember("theme", next);
        showTheme();
    }

    // ---- keys ------------------------------------------------------------------------------------

    let afterG = 0;

    function move(step) {
        const rows = Array.from(document.querySelectorAll("tr[data-row]"));
        const here = rows.findIndex((row) => row.contains(document.activeElement));
        const row = rows[here < 0 ? (step > 0 ? 0 : rows.length - 1) : here + step];
        const link = row && row.querySelector("a, button");
        if (link) { link.focus(); row.scrollIntoView({ block: "nearest" }); }
        else if (row) { row.tabIndex = -1; row.focus(); }
    }

    document.addEventListener("keydown", (event) => {
        const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
        if (event.key === "Escape" && typing) document.activeElement.blur();
        if (typing || event.ctrlKey || event.metaKey || event.altKey || remembered("keys") === "off") return;
        if (document.querySelector("dialog[open]")) return;
        if (Date.now() - afterG < 1500) {
            afterG = 0;
            const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
            if (link) { event.preventDefault(); link.click(); return; }
        }
        const does = {
            g: () => { afterG = Date.now(); },
            j: () => move(1),
            k: () => move(-1),
            t: nextTheme,
            "?": () => $("keys").showModal(),
            "/": () => { if ($("filter")) $("filter").focus(); },
        }[event.key];
        if (does) { event.preventDefault(); does(); }
    });

    function start() {
        showTheme();
        if ($("theme")) $("theme").addEventListener("click", nextTheme);
        if ($("help")) $("help").addEventListener("click", () => $("keys").showModal());
        if ($("keys-on")) {
            $("keys-on").checked = remembered("keys") !== "off";
            $("keys-on").addEventListener("change", (event) => remember("keys", event.target.checked ? "on" : "off"));
        }
        tick();
        open();
    }
    start();
    document.addEventListener("htmx:afterSettle", tick);
})();
