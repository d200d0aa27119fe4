"""The web console in a headless Chromium, driven over WebDriver."""

import base64
import json
import math
import os
import pathlib
import subprocess
import threading
import time
import urllib.error
import urllib.request

import paho.mqtt.client as mqtt

from peers import main

# The time that a page may take for what takes it milliseconds.
PATIENCE = 60
# What all files of the page may weigh together, in bytes.
WEIGHT_MAX = 300_000
# The key as WebDriver writes it.
RIGHT = "\ue014"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """A session of chromedriver."""

    def __init__(self, driver):
        self.url = driver
        options = {
            "args": [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--window-size=1280,900",
                "--force-color-profile=srgb",
            ]
        }
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.url = f"{driver}/session/{made['sessionId']}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:600]}") from error

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector):
        return self.call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.call("POST", f"/element/{self.find(selector)}/click", {})

    def type(self, selector, text):
        self.call("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def text(self, selector="body"):
        return self.run(f"return document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def until(self, what, script, *arguments):
        """Waits until a script returns something true, and returns it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = self.run(script, *arguments)
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{what} did not come; the page shows: {self.text()[:800]!r}")

    def complaints(self):
        """What the page wrote to the console of the browser as an error."""
        log = self.call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def dark(self, is_dark):
        media = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        body = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": media}}
        self.call("POST", "/goog/cdp/execute", body)

    def size(self, width, height):
        params = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        body = {"cmd": "Emulation.setDeviceMetricsOverride", "params": params}
        self.call("POST", "/goog/cdp/execute", body)

    def keep(self, directory, name):
        picture = base64.b64decode(self.call("GET", "/screenshot"))
        (directory / f"{name}.png").write_bytes(picture)

    def quit(self):
        self.call("DELETE", "")


def publish_until(stop, host, port, user):
    """Publishes readings of a small plant until told otherwise."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    if user:
        client.username_pw_set(**user)
    client.connect(host, int(port))
    client.loop_start()
    step = 0
    while not stop.is_set():
        angle = step / 25
        value = 60 + 20 * math.sin(angle)
        reading = {"value": round(value, 3), "quality": "good", "unit": "°C"}
        client.publish("plant/hall-1/press-1/temperature", json.dumps(reading), qos=1)
        motor = {"vibration": round(1 + math.cos(angle * 3), 3), "rpm": 1480 + step % 5}
        client.publish("plant/hall-1/press-1/motor", json.dumps(motor), qos=1)
        client.publish("plant/hall-2/pump-1/pressure", f"{3 + math.sin(angle):.3f}", qos=1)
        client.publish("plant/hall-2/pump-1/state", "running", qos=1, retain=True)
        step += 1
        stop.wait(0.2)
    client.loop_stop()
    client.disconnect()


def names_are_there(browser, page):
    """Everything that can be used has a name for those who do not see it."""
    nameless = browser.run(
        """
        const named = (e) => (e.getAttribute('aria-label') || e.innerText || '').trim()
          || (e.labels && e.labels.length > 0);
        const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
        const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
        const used = [...document.querySelectorAll('a[href], button, input, select, canvas, [role=region]')];
        return used.filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 120)).concat(twice);
        """
    )
    assert nameless == [], f"{page}: without a name, or twice: {nameless}"


def first_page(browser, base, pictures):
    browser.open(f"{base}/")
    browser.until("a live value", "return document.querySelectorAll('#tree a.value b').length >= 3")
    texts = "return [...document.querySelectorAll('#tree a.value b')].map((e) => e.textContent).join()"
    before = browser.run(texts)
    browser.until("another value", f"return (() => {{ {texts} }})() !== arguments[0]", before)
    browser.until("a sparkline", "return document.querySelectorAll('svg.spark').length > 0")
    browser.until("the name of the node", "return document.title.endsWith('console')")
    weight = browser.run(
        "return performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
        ".filter((e) => !e.name.includes('/api/')).reduce((sum, e) => sum + e.transferSize, 0)"
    )
    assert 0 < weight < WEIGHT_MAX, weight
    paint = browser.run("return performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    print(f"first contentful paint {paint:.0f} ms, {weight} bytes")
    names_are_there(browser, "live")
    browser.keep(pictures, "live")
    browser.type("#find", "pump")
    browser.until("only the pump", "return document.querySelector('#main').innerText.includes('3 of ')")


def chart_page(browser, base, pictures):
    browser.open(f"{base}/#/")
    browser.until("a link to a chart", "return document.querySelector('a.value[href*=temperature]')")
    browser.click("a.value[href*=temperature]")
    drawn = """
        const canvas = document.querySelector('#chart canvas');
        if (!canvas) return 0;
        const pen = canvas.getContext('2d');
        const tint = getComputedStyle(document.documentElement).getPropertyValue('--first').trim();
        const [r, g, b] = [1, 3, 5].map((at) => parseInt(tint.slice(at, at + 2), 16));
        const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let at = 0; at < data.length; at += 4) {
          if (data[at] === r && data[at + 1] === g && data[at + 2] === b && data[at + 3] === 255) count += 1;
        }
        return count;
    """
    browser.until("a line", f"return (() => {{ {drawn} }})() > 50")
    browser.until("numbers", "return document.querySelectorAll('details td').length > 0")
    browser.run("document.querySelector('.bar button').click()")
    browser.until("five minutes", "return document.querySelector('.bar button').getAttribute('aria-pressed') === 'true'")
    browser.until("an alert mark", f"return (() => {{ {drawn.replace('--first', '--bad')} }})() > 20")
    browser.type("#add-series", "plant/hall-1/press-1/motor vibration")
    browser.run("document.querySelector('#add-series').dispatchEvent(new Event('change'))")
    browser.until("a second axis", "return document.querySelectorAll('.legend li').length === 2")
    browser.run("document.querySelectorAll('.bar button')[0].click()")
    browser.until("two lines", f"return (() => {{ {drawn.replace('--first', '--second')} }})() > 20")
    names_are_there(browser, "chart")
    browser.keep(pictures, "chart")
    # Zooming by the keyboard ends the following of the newest.
    browser.run("document.querySelector('#chart canvas').focus()")
    browser.type("#chart canvas", "+")
    browser.until("a zoom", "return !document.querySelector('.bar button[aria-pressed=true]')")
    # The middle of the five minutes is before the first reading.
    browser.type("#chart canvas", RIGHT * 2)
    browser.until("a line", f"return (() => {{ {drawn} }})() > 50")


def alert_page(browser, base, pictures):
    browser.open(f"{base}/#/alerts")
    browser.until("an alert", "return document.querySelector('#main section form')")
    names_are_there(browser, "alerts")
    browser.keep(pictures, "alerts")
    browser.type("#main section form input", "shift-2")
    browser.click("#main section form button")
    browser.until("the acknowledgement", "return document.querySelector('#main').innerText.includes('Acknowledged by shift-2')")


def other_pages(browser, base, pictures):
    wanted = {
        "devices": "Devices",
        "queries": "hot",
        "topics": "Durable up to",
        "uplink": "No [uplink] section",
        "audit": "Every offset that was acknowledged is there",
    }
    for page, text in wanted.items():
        browser.open(f"{base}/#/{page}")
        browser.until(page, "return document.querySelector('#main').innerText.includes(arguments[0])", text)
        names_are_there(browser, page)
        browser.keep(pictures, page)
    browser.dark(True)
    browser.open(f"{base}/#/")
    browser.until("the tree", "return document.querySelector('#tree a.value')")
    browser.keep(pictures, "live-dark")
    browser.dark(False)
    browser.size(390, 844)
    for page in ["", "chart", "topics"]:
        browser.open(f"{base}/#/{page}")
        browser.until("a page", "return document.querySelector('#main h2')")
        too_wide = browser.run("return document.documentElement.scrollWidth - innerWidth")
        assert too_wide <= 0, f"{page}: {too_wide} pixels beyond the edge of a phone"
        browser.keep(pictures, f"phone-{page or 'live'}")
    browser.size(1280, 900)


def login_page(browser, base, pictures):
    """On the node's own machine one may look; to change something one logs in."""
    browser.open(f"{base}/")
    browser.until("a live value", "return document.querySelectorAll('#tree a.value b').length >= 3")
    browser.until("a way to log in", "return document.querySelector('#log-in')")
    browser.open(f"{base}/#/alerts")
    browser.until("an alert", "return document.querySelector('#main section form')")
    browser.type("#main section form input", "somebody")
    browser.click("#main section form button")
    browser.until("a refusal", "return document.querySelector('#main').innerText.includes('log in first')")
    browser.click("#log-in")
    browser.until("the form", "return document.querySelector('#password')")
    names_are_there(browser, "login")
    browser.keep(pictures, "login")
    browser.type("#user", "panel")
    browser.type("#password", "wrong")
    browser.click("form button")
    browser.until("another refusal", "return document.querySelector('form').innerText.includes('is not right')")
    browser.type("#password", "of the panel")
    browser.click("form button")
    browser.until("the user", "return document.querySelector('#me')?.innerText.includes('panel')")
    browser.until("an alert", "return document.querySelector('#main section form')")
    browser.type("#main section form input", "!")
    browser.click("#main section form button")
    browser.until("the acknowledgement", "return document.querySelector('#main').innerText.includes('Acknowledged by panel')")
    browser.click("#log-out")
    browser.until("a way to log in", "return document.querySelector('#log-in')")
    # The three refusals are there, and nothing else.
    refused = [text for text in browser.complaints() if "401" not in text]
    assert refused == [], refused


def all_pages(browser, base, pictures):
    for page in [first_page, chart_page, alert_page, other_pages]:
        page(browser, base, pictures)
        complaints = browser.complaints()
        assert complaints == [], complaints


def console(mqtt_address, _kafka, http, pictures):
    look(mqtt_address, http, pictures, all_pages, {})


def login(mqtt_address, _kafka, http, pictures):
    look(mqtt_address, http, pictures, login_page, {"username": "plant", "password": "of the plant"})


def look(mqtt_address, http, pictures, visit, user):
    pictures = pathlib.Path(pictures)
    pictures.mkdir(parents=True, exist_ok=True)
    host, port = mqtt_address.rsplit(":", 1)
    base = f"http://{http}"
    stop = threading.Event()
    publisher = threading.Thread(target=publish_until, args=(stop, host, port, user))
    publisher.start()
    reader, writer = os.pipe()
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        with os.fdopen(reader) as said:
            port = next(line.rsplit(" ", 1)[1].strip(".\n") for line in said if "started successfully on port" in line)
            browser = Browser(f"http://127.0.0.1:{port}")
            try:
                visit(browser, base, pictures)
            except AssertionError:
                browser.keep(pictures, "failed")
                raise
            finally:
                browser.quit()
    finally:
        stop.set()
        publisher.join()
        driver.terminate()
        driver.wait()


if __name__ == "__main__":
    main({"console": console, "login": login})
