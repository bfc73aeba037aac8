// As much of the NATS protocol as a JetStream consumer needs, over a plain socket or TLS.
// https://docs.nats.io/reference/reference-protocols/nats-protocol

import { randomBytes } from 'node:crypto'
import { connect as connectTcp, isIP } from 'node:net'
import { connect as connectTls } from 'node:tls'

const CRLF = Buffer.from('\r\n')
const ANSWER_MS = 5000

/** A connection that ends with the first error: start the program again, a durable consumer goes on where it was. */
export class Nats {
  #socket
  #waiting = Buffer.alloc(0)
  #subscriptions = new Map()
  #pongs = []
  #inbox
  #count = 0
  #ended
  #info

  /** `login`: {user, pass} or {auth_token}; `ca`: PEM of the server's authority, which turns on TLS; `inbox`: prefix of answers. */
  static async connect(url, { login = {}, ca, inbox = '_INBOX' } = {}) {
    const nats = new Nats()
    await nats.#open(new URL(url), login, ca, inbox)
    return nats
  }

  /** Rejects once the connection has ended, with the reason. */
  get ended() {
    return this.#ended
  }

  async #open(url, login, ca, inbox) {
    const end = this.#watched()
    this.#inbox = `${inbox}.${randomBytes(12).toString('hex')}`
    const greeted = new Promise(resolve => { this.#info = resolve })
    this.#listen(connectTcp(Number(url.port || 4222), url.hostname), end)
    const info = await Promise.race([greeted, this.#ended])
    if (ca !== undefined || url.protocol === 'tls:') {
      this.#socket.removeAllListeners('data')
      const servername = isIP(url.hostname) ? '' : url.hostname
      const secure = connectTls({ socket: this.#socket, host: url.hostname, servername, ca })
      this.#listen(secure, end)
      await Promise.race([new Promise(resolve => secure.once('secureConnect', resolve)), this.#ended])
    } else if (info.tls_required) {
      throw new Error('the server asks for TLS: give its authority')
    }
    const hello = { verbose: false, pedantic: false, headers: true, no_responders: true, lang: 'node', version: '1', ...login }
    this.#write(`CONNECT ${JSON.stringify(hello)}`)
    await this.flush()
  }

  #watched() {
    let end
    this.#ended = new Promise((_, reject) => { end = reject })
    this.#ended.catch(() => {})
    return end
  }

  #listen(socket, end) {
    this.#socket = socket
    socket.on('data', bytes => {
      try {
        this.#take(bytes)
      } catch (error) {
        socket.destroy(error)
      }
    })
    socket.on('error', end)
    socket.on('close', () => end(new Error('the server closed the connection')))
  }

  #write(line, ...parts) {
    this.#socket.write(Buffer.concat([Buffer.from(line), CRLF, ...parts.flatMap(part => [part, CRLF])]))
  }

  // Reading -----------------------------------------------------------------------------------------------------------

  #take(bytes) {
    this.#waiting = this.#waiting.length ? Buffer.concat([this.#waiting, bytes]) : bytes
    for (;;) {
      const end = this.#waiting.indexOf(CRLF)
      if (end < 0) return
      const line = this.#waiting.toString('utf8', 0, end)
      const size = /^H?MSG /.test(line) ? Number(line.slice(line.lastIndexOf(' ') + 1)) : 0
      const rest = size || /^H?MSG /.test(line) ? end + 2 + size + 2 : end + 2
      if (this.#waiting.length < rest) return
      const payload = this.#waiting.subarray(end + 2, end + 2 + size)
      this.#waiting = this.#waiting.subarray(rest)
      this.#heard(line, payload)
    }
  }

  #heard(line, payload) {
    if (line.startsWith('MSG ') || line.startsWith('HMSG ')) this.#message(line, payload)
    else if (line === 'PING') this.#write('PONG')
    else if (line === 'PONG') this.#pongs.shift()?.()
    else if (line.startsWith('INFO ')) this.#info(JSON.parse(line.slice(5)))
    else if (line.startsWith('-ERR')) throw new Error(`the server says: ${line.slice(5)}`)
  }

  #message(line, payload) {
    const words = line.split(' ')
    const split = words[0] === 'HMSG' ? Number(words.at(-2)) : 0
    const reply = words.length === (split ? 6 : 5) ? words[3] : ''
    const { status, headers } = parseHeaders(payload.toString('utf8', 0, split))
    this.#subscriptions.get(words[2])?.({ subject: words[1], reply, status, headers, body: payload.subarray(split) })
  }

  // Saying ------------------------------------------------------------------------------------------------------------

  /** What ends the subscription. */
  subscribe(subject, take) {
    const sid = String(++this.#count)
    this.#subscriptions.set(sid, take)
    this.#write(`SUB ${subject} ${sid}`)
    return () => {
      this.#subscriptions.delete(sid)
      this.#write(`UNSUB ${sid}`)
    }
  }

  publish(subject, body = '', reply = '') {
    const bytes = Buffer.from(body)
    this.#write(`PUB ${subject} ${reply ? reply + ' ' : ''}${bytes.length}`, bytes)
  }

  /** Once the server has had all that was said. */
  async flush() {
    const heard = new Promise(resolve => this.#pongs.push(resolve))
    this.#write('PING')
    await Promise.race([heard, this.#ended])
  }

  /** What JetStream's API answers. */
  async api(what, request) {
    const [answer] = await this.#ask(`$JS.API.${what}`, request, () => true)
    const said = JSON.parse(answer.body)
    if (said.error) throw new Error(`${what}: ${said.error.description}`)
    return said
  }

  /** At most `batch` messages of a consumer, or none after `waitMs`. */
  async pull(stream, consumer, batch, waitMs) {
    const request = { batch, expires: waitMs * 1e6 }
    const found = await this.#ask(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, request, (message, count) => message.status || count === batch)
    const last = found.at(-1)
    if (last?.status && !['404', '408'].includes(last.status.slice(0, 3))) throw new Error(`${consumer}: ${last.status}`)
    return found.filter(message => !message.status)
  }

  async #ask(subject, request, isLast) {
    const reply = `${this.#inbox}.${++this.#count}`
    const found = []
    let timer, unsubscribe
    const heard = new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`${subject}: no answer`)), ANSWER_MS + (request.expires ?? 0) / 1e6)
      unsubscribe = this.subscribe(reply, message => {
        if (message.status.startsWith('503')) reject(new Error(`${subject}: nobody answers there; is JetStream on?`))
        found.push(message)
        if (isLast(message, found.length)) resolve()
      })
    })
    this.publish(subject, JSON.stringify(request), reply)
    try {
      await Promise.race([heard, this.#ended])
    } finally {
      clearTimeout(timer)
      unsubscribe()
    }
    return found
  }

  close() {
    this.#socket.destroy()
  }
}

// A name that comes twice is both values joined: no signature is of that.
function parseHeaders(text) {
  const [first, ...lines] = text.split('\r\n')
  const headers = Object.create(null)
  for (const line of lines.filter(Boolean)) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon), value = line.slice(colon + 1).trim()
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value
  }
  return { status: first.slice('NATS/1.0 '.length).trim(), headers }
}
