"""A headless Chromium, the system's own, driven by Playwright."""

import shutil
from pathlib import Path

CHROMIUM = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)


class Browser:
    """One page. `errors` collects what its console complains about."""

    def __init__(self, width: int = 1200, height: int = 900) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        try:
            self._chromium = self._playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        except BaseException:
            self._playwright.stop()
            raise
        self.page = self._chromium.new_page(viewport={"width": width, "height": height})
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)

    def _note(self, message) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def open(self, address: str) -> None:
        """Load a page."""
        self.page.goto(address)

    def run(self, script: str) -> object:
        """The value of an expression, awaited if it is a promise."""
        return self.page.evaluate(script)

    def wait(self, condition: str, timeout_s: float = 60.0) -> None:
        """Wait until an expression is true."""
        # Not wait_for_function: it evaluates strings in the page, which the page's own policy forbids.
        script = f"""new Promise((done, fail) => {{
            const end = Date.now() + {1000 * timeout_s};
            (function look() {{
                if ({condition}) done(true);
                else if (Date.now() > end) fail(new Error("never true"));
                else setTimeout(look, 30);
            }})();
        }})"""
        try:
            self.page.evaluate(script)
        except Exception as error:
            raise AssertionError(f"{condition}: {error}") from None

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Another window, and light or dark."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme="dark" if dark else "light")

    def press(self, key: str) -> None:
        """One key."""
        self.page.keyboard.press(key)

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to an input."""
        self.page.set_input_files(selector, path)

    def screenshot(self, path: Path) -> None:
        """A picture of the whole page."""
        self.page.screenshot(path=path, full_page=True)

    def close(self) -> None:
        """End the browser."""
        self._chromium.close()
        self._playwright.stop()
