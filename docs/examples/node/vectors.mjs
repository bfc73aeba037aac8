#!/usr/bin/env node
// Holds wazuh.mjs to the project's test vectors: node vectors.mjs ../../../tests/vectors

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { canonical, decrypt, keysOf, statement, verify, verifyBody } from './wazuh.mjs'

const read = name => JSON.parse(readFileSync(join(process.argv[2] ?? 'tests/vectors', `${name}.json`), 'utf8'))
const hex = text => Buffer.from(text, 'hex')
let failed = 0, count = 0

function expect(what, holds) {
  count += 1
  if (holds) return
  failed += 1
  console.error(`FAILED: ${what}`)
}

function stands(event) {
  try {
    verifyBody(keys, event)
    return true
  } catch {
    return false
  }
}

const told = read('keys')
const keys = keysOf(Object.entries(told).map(([algorithm, key]) => ({ algorithm, ...key })))
expect('three keys, each called by its own id', keys.size === 3)

for (const { what, body, canonical: wanted } of read('bodies')) {
  expect(`${what}: canonical bytes`, Buffer.from(canonical(body)).equals(hex(wanted)))
}
for (const { what, body, signatures } of read('bodies')) {
  for (const [algorithm, signature] of Object.entries(signatures)) {
    expect(`${what}: ${algorithm} in the body`, stands({ ...body, signature }))
    expect(`${what}: ${algorithm} of another body`, !stands({ ...body, event_id: 'x', signature }))
  }
}
for (const name of ['sealed', 'encrypted', 'forged']) {
  for (const { what, subject, headers, body, statement: wanted, plaintext } of read(name)) {
    expect(`${what}: statement`, statement(subject, headers, hex(body)).equals(hex(wanted)))
    const { ok, why } = verify(keys, subject, headers, hex(body))
    expect(`${what}: ${name === 'forged' ? 'must be refused' : why}`, ok === (name !== 'forged'))
    if (plaintext) expect(`${what}: plaintext`, decrypt(keys, subject, headers, hex(body)).equals(hex(plaintext)))
  }
}

// Any changed byte of a body, and any other place for an encrypted one.
for (const name of ['sealed', 'encrypted']) {
  for (const { what, subject, headers, body } of read(name)) {
    const bytes = hex(body)
    const place = createHash('sha256').update(body).digest().readUInt32BE() % bytes.length
    bytes[place] ^= 1
    expect(`${what}: byte ${place} changed`, !verify(keys, subject, headers, bytes).ok)
    expect(`${what}: another subject`, !verify(keys, subject + 'x', headers, hex(body)).ok)
  }
}

console.log(`${count} checks, ${failed} failed`)
process.exitCode = failed ? 1 : 0
