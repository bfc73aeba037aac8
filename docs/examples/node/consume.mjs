#!/usr/bin/env node
// Follows the events of a relay through a durable consumer and says of each whether it is genuine.
//
//     wazuh-relay keys export --out keys.json              # on the relay's host; --with-secrets for HMAC and encryption
//     node consume.mjs --keys keys.json --server nats://127.0.0.1:4222
//
// One line of JSON for each message. It ends where the connection does: let a supervisor start it again.

import { readFileSync, statSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Nats } from './nats.mjs'
import { readKeys, verify } from './wazuh.mjs'

const { values: asked } = parseArgs({
  options: {
    server: { type: 'string', default: 'nats://127.0.0.1:4222' },
    keys: { type: 'string', default: 'keys.json' },
    stream: { type: 'string', default: 'WAZUH_EVENTS' },
    subject: { type: 'string', default: 'wazuh.agent.*.status' },
    consumer: { type: 'string', default: 'node' },
    credentials: { type: 'string' }, // a file with one line user:password
    ca: { type: 'string' }, // a PEM file, turns on TLS
    inbox: { type: 'string', default: '_INBOX' }, // where this user may hear answers
    bind: { type: 'boolean', default: false }, // the consumer is there, and this user may not make one
    limit: { type: 'string', default: 'Infinity' },
  },
})

let keys, changed

// Keys change without a restart: the file is read again once it is another one.
function currentKeys() {
  const now = statSync(asked.keys).mtimeMs
  if (now !== changed) [keys, changed] = [readKeys(asked.keys), now]
  return keys
}

function login() {
  if (asked.credentials === undefined) return {}
  const [user, ...pass] = readFileSync(asked.credentials, 'utf8').trim().split(':')
  return { user, pass: pass.join(':') }
}

// A message that is not genuine is shown and acked as well: given again it would be no better.
function show(message) {
  const { ok, why, event } = verify(currentKeys(), message.subject, message.headers, message.body)
  process.stdout.write(JSON.stringify({ verified: ok, why, subject: message.subject, kind: message.headers['Wazuh-Kind'], event }) + '\n')
}

const nats = await Nats.connect(asked.server, { login: login(), ca: asked.ca && readFileSync(asked.ca), inbox: asked.inbox })
if (!asked.bind) {
  const config = { durable_name: asked.consumer, ack_policy: 'explicit', filter_subject: asked.subject, deliver_policy: 'all' }
  await nats.api(`CONSUMER.CREATE.${asked.stream}.${asked.consumer}.${asked.subject}`, { stream_name: asked.stream, config })
}
for (let left = Number(asked.limit); left > 0; ) {
  for (const message of await nats.pull(asked.stream, asked.consumer, Math.min(100, left), 5000)) {
    show(message)
    nats.publish(message.reply, '+ACK')
    left -= 1
  }
}
await nats.flush()
nats.close()
