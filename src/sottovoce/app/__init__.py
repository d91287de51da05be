"""The app: a web application on this machine alone, for its user.

    browser ─▶ 127.0.0.1:PORT ─▶ access ─▶ pages, shelf, asking ─▶ device.client ⇢ the rest of the world

Nothing here talks to the network but `device.client`, and only when the user asks for something. What the browser shows comes from here: no
page loads anything from elsewhere.
"""
