// Keeps the worker that paints: starts it, gives it jobs, and ends it where a job is to be stopped.
// What the worker does is left to painter.js, and what is asked of it to page.js.

class Problem extends Error {} // something to tell the visitor, in words
class Stopped extends Error {}

// What is stopped ends at once, and with it the worker, so that the next one is new.
class Painter {
  constructor(files, road) {
    const script = new Blob([document.getElementById("painter").textContent], { type: "text/javascript" });
    this.address = URL.createObjectURL(script);
    this.first = { files, road };
    this.asked = 0; // jobs, which have numbers, so that each gets its own answer
    this.stops = 0;
    this.start();
  }

  // Start a worker. When it is `ready`, what is known of the `networks` is there.
  start() {
    this.waiting = new Map(); // for answers, by the number of the job
    this.reading = true;
    this.worker = new Worker(this.address);
    this.worker.onmessage = ({ data: answer }) => this.settle(answer);
    this.worker.onerror = () => this.fail(new Problem("This browser cannot run what paints. A newer one can."));
    this.ready = this.ask(this.first).then(({ networks }) => {
      this.reading = false;
      this.networks ??= networks;
      return { networks: this.networks };
    });
    this.ready.catch(() => {}); // told to whoever waits for it
  }

  // Send the worker a message, and wait for its answer.
  ask(message, report) {
    const job = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(job, { resolve, reject, report });
      this.worker.postMessage({ ...message, job });
    });
  }

  settle({ job, ...answer }) {
    const asker = this.waiting.get(job);
    if (!asker) return; // it was stopped
    if ("progress" in answer) {
      asker.report?.(answer.progress);
      return;
    }
    this.waiting.delete(job);
    if (answer.failed) asker.reject(new Problem(wordsFor(answer)));
    else asker.resolve(answer);
  }

  fail(error) {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  // Send a message as soon as the worker is ready, so that it can be stopped.
  async work(message, report) {
    const { stops } = this;
    await this.ready;
    if (stops !== this.stops) throw new Stopped();
    return this.ask(message, report);
  }

  // Paint with a network of that number, and if it takes any style, in the one that a code of 100 numbers is.
  paint(number, { data, height, width }, report, code) {
    return this.work({ number, data, height, width, code }, report);
  }

  stop() {
    this.stops++;
    if (this.reading || !this.waiting.size) return; // the worker reads the networks, or has nothing to do
    this.worker.terminate();
    this.fail(new Stopped());
    this.start();
  }
}

function wordsFor({ failed, network }) {
  if (failed === "memory") return "There is too little memory for this picture.";
  if (network) return `The network ${network} in this page is damaged: ${failed}.`;
  return `This cannot be painted: ${failed}.`;
}
