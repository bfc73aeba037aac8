// What a message of WAZUH_EVENTS or WAZUH_HEARTBEATS is worth: its signatures, and its body decrypted.
// Node.js 18 or newer, standard library only. docs/keys.md says what is signed; tests/vectors holds examples of each step.

import { createDecipheriv, createHash, createHmac, createPublicKey, hkdfSync, timingSafeEqual, verify as verifies } from 'node:crypto'
import { readFileSync } from 'node:fs'

const MAX_SIGNATURES = 8
const MAX_HEADER = 2048
const SALT = 16, NONCE = 12, TAG = 16 // bytes before and behind the ciphertext

const hex = text => Buffer.from(text, 'hex')
const keyId = (what, value) => createHash('sha256').update(`wazuh-jetstream ${what}\0`).update(value).digest('hex').slice(0, 16)

// Keys ----------------------------------------------------------------------------------------------------------------

/** The keys of a file that `wazuh-relay keys export` wrote, by their ids. A key without its secret cannot be used and is left out. */
export function readKeys(path) {
  const file = JSON.parse(readFileSync(path, 'utf8'))
  if (file.format !== 'wazuh-jetstream keys' || file.version !== 1) throw new Error(`${path} is no key file of version 1`)
  return keysOf(file.keys)
}

export function keysOf(entries) {
  const keys = new Map()
  for (const entry of entries) {
    const key = keyOf(entry)
    if (key === null) continue
    if (key.kid !== entry.kid) throw new Error(`key ${entry.kid} is called by an id that is not its own`)
    keys.set(key.kid, key)
  }
  return keys
}

function keyOf({ algorithm, public_key, secret }) {
  if (algorithm === 'ed25519' && public_key) {
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: hex(public_key).toString('base64url') }
    return { algorithm, kid: keyId('ed25519 key id', hex(public_key)), key: createPublicKey({ key: jwk, format: 'jwk' }) }
  }
  if (algorithm === 'hmac-sha256' && secret) return { algorithm, kid: keyId('key id', hex(secret)), key: hex(secret) }
  if (algorithm === 'aes-256-gcm' && secret) return { algorithm, kid: keyId('encryption key id', hex(secret)), key: hex(secret) }
  return null
}

// The algorithm is the key's own, never what a message claims; and a signature has one spelling, lower-case hex.
function isSigned(key, bytes, signature) {
  if (!/^(?:[0-9a-f]{64}|[0-9a-f]{128})$/.test(signature)) return false
  if (key.algorithm === 'ed25519') return signature.length === 128 && verifies(null, bytes, key.key, hex(signature))
  if (key.algorithm !== 'hmac-sha256' || signature.length !== 64) return false
  return timingSafeEqual(createHmac('sha256', key.key).update(bytes).digest(), hex(signature))
}

// What is signed ------------------------------------------------------------------------------------------------------

const ascii = value => JSON.stringify(value).replace(/[^ -~]/g, unit => '\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'))

/** RFC 8785: what an event's `signature` is over, once that field is taken out. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical)}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  return `{${Object.keys(value).sort().map(name => `${JSON.stringify(name)}:${canonical(value[name])}`)}}`
}

/** What the header `Wazuh-Signature` is over. */
export function statement(subject, headers, body) {
  const covered = Object.entries(headers)
    .map(([name, value]) => [name.toLowerCase(), value])
    .filter(([name]) => /^(wazuh|ce)-/.test(name) && name !== 'wazuh-signature')
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return Buffer.from(ascii(['wazuh-jetstream/1', subject, createHash('sha256').update(body).digest('hex'), covered]))
}

const header = (headers, wanted) => Object.entries(headers).find(([name]) => name.toLowerCase() === wanted)?.[1]

// One message ---------------------------------------------------------------------------------------------------------

/** {ok, why, event}: whether the message is the relay's word, and what it says. `body` is a Buffer, as it was sent. */
export function verify(keys, subject, headers, body) {
  try {
    verifyHeader(keys, subject, headers, body)
    const event = JSON.parse(decrypt(keys, subject, headers, body))
    for (const one of Array.isArray(event.events) ? event.events : [event]) verifyBody(keys, one)
    return { ok: true, why: '', event }
  } catch (error) {
    return { ok: false, why: error.message, event: null }
  }
}

function verifyHeader(keys, subject, headers, body) {
  const value = header(headers, 'wazuh-signature')
  if (value === undefined) throw new Error('unsigned')
  const entries = value.split(',')
  if (entries.length > MAX_SIGNATURES || value.length > MAX_HEADER) throw new Error('more signatures than a change of keys needs')
  const said = statement(subject, headers, body)
  const good = entries.some(entry => {
    const [algorithm, kid, signature, more] = entry.trim().split(';')
    const key = keys.get(kid)
    return more === undefined && key?.algorithm === algorithm && isSigned(key, said, signature ?? '')
  })
  if (!good) throw new Error("the header's signature is not of this message, or under another key")
}

/** Throws where an event's own signature is not of it: for a body that was stored without its message. */
export function verifyBody(keys, { signature, ...unsigned }) {
  const bytes = Buffer.from(canonical(unsigned))
  if (typeof signature !== 'string' || ![...keys.values()].some(key => isSigned(key, bytes, signature))) {
    throw new Error('a signature in the body is not of it')
  }
}

/** The body as it was before it was encrypted, if it was. */
export function decrypt(keys, subject, headers, body) {
  const how = header(headers, 'wazuh-encryption')
  if (how === undefined) return body
  const [algorithm, kid] = how.split(';')
  const key = keys.get(kid)
  if (algorithm !== 'aes-256-gcm' || key?.algorithm !== algorithm) throw new Error(`it is encrypted under key ${kid}, which is not here`)
  const salt = body.subarray(0, SALT), nonce = body.subarray(SALT, SALT + NONCE)
  const messageKey = Buffer.from(hkdfSync('sha256', key.key, salt, 'wazuh-jetstream/1 message key', 32))
  const opener = createDecipheriv('aes-256-gcm', messageKey, nonce, { authTagLength: TAG })
  opener.setAAD(Buffer.from(ascii(['wazuh-jetstream/1 encrypted', subject, header(headers, 'ce-id') ?? '', kid])))
  opener.setAuthTag(body.subarray(body.length - TAG))
  return Buffer.concat([opener.update(body.subarray(SALT + NONCE, body.length - TAG)), opener.final()])
}
