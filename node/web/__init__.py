"""The HTTP port: health, metrics, status and the dashboard. Reads everything, changes nothing.

    http       requests and answers over asyncio streams; h11 knows the bytes
    listening  the other end of a stream of events
    guard      who may: loopback names, token, origin
    exposition metrics as text;  families: which ones, gathered from the node when asked for
    recorder   the last minutes of this node: samples twice a second, events as they happen
    pages      what stands at which path of a node
    fan_in     what all nodes say, through one of them: one stream of events for one open page
    panel      the laboratory's page (`trimaran cluster --lab`), and its buttons
    page.html  the dashboard: one file, no build, nothing from elsewhere

Decision (2026-11-25): h11 and 200 lines instead of starlette and uvicorn. They are imported in
45 ms and take 8 MiB in each node, h11 6 ms and nothing to speak of; uvicorn wakes up ten times a
second, wants the signals, and waits for open event streams when it stops. What is used of HTTP
here is GET, POST of a small body, and a stream of events. Price: no HTTP/2, no compression, no
TLS of our own on this port (put a proxy before it, or tunnel).

Decision (2026-11-25): metrics are written by hand. prometheus-client keeps its numbers in objects
with locks, and what we have are plain integers in their rooms; only its text would be used, which
is 40 lines. promtool and a real Prometheus check them (tests/web/test_prometheus.py).

Decision (2026-11-25): no CORS. A page asks only the node that it came from; that node asks the
others at their http addresses, with the token that all share, as long as a page is open. So
nothing has to trust another origin, and a node that is cut off from its peers still shows what
it thinks. Price: when the page's own node dies the page waits for it (the laboratory's page comes
from the supervisor, which outlives them).
"""
