// What a page's EventSource is told: each event, each time it opens, each error; and who waits for something of it.
class Follower {
  constructor(url) {
    this.seen = []
    this.opened = 0
    this.errors = []
    this.waiting = []
    this.source = new EventSource(url)
    for (const kind of ['created', 'updated', 'deleted'])
      this.source.addEventListener(kind, told => this.note(this.seen, [told.lastEventId, kind, told.data]))
    this.source.onmessage = told => this.note(this.errors, `a message without a name: ${told.data}`)
    this.source.onopen = () => { this.opened += 1; this.look() }
    this.source.onerror = () => this.note(this.errors, this.source.readyState)
  }

  get position() {
    return this.seen.length ? parseInt(this.seen.at(-1)[0]) : 0
  }

  note(list, value) {
    list.push(value)
    this.look()
  }

  look() {
    this.waiting = this.waiting.filter(([condition, done]) => !condition(this) || done(true))
  }

  // A promise that comes true when the condition does.
  until(condition) {
    return new Promise(done => { this.waiting.push([condition, done]); this.look() })
  }
}
