// Runs the public suite of HTTP cache tests (npm: http-cache-tests, BSD-3-Clause) against a gateway, and counts.
//
//     node run.mjs SUITE_FOLDER GATEWAY_URL [TEST_ID]
//
// A test counts as passed as the suite itself counts: not when a test that it depends on failed. With a TEST_ID that
// test alone runs, and its requests and responses are shown.

import { createRequire } from 'node:module'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, gateway, only] = process.argv.slice(2)
const suite = path => import(pathToFileURL(join(resolve(folder), path)).href)

const groups = [...(await suite('tests/index.mjs')).default]
// Older versions of the suite leave this group to their own command line.
if (!groups.some(group => group.id === 'surrogate-control') && existsSync(join(folder, 'tests/surrogate-control.mjs'))) {
  groups.push((await suite('tests/surrogate-control.mjs')).default)
}
const { runTests, getResults } = await suite('client/runner.mjs')

await runTests(selected(groups), await client(), false, gateway)
const results = getResults()
if (only) {
  console.log(results)
} else {
  report(groups, results)
}

function selected (groups) {
  if (!only) return groups
  const named = groups.map(group => ({ ...group, tests: group.tests.filter(test => test.id === only) }))
  named.forEach(group => group.tests.forEach(test => { test.dump = true }))
  return named.filter(group => group.tests.length > 0)
}

// The client that this version of the suite was written for.
async function client () {
  try {
    const path = createRequire(join(resolve(folder), 'package.json')).resolve('node-fetch')
    return (await import(pathToFileURL(path).href)).default
  } catch {
    return globalThis.fetch
  }
}

function report (groups, results) {
  const tests = new Map(groups.flatMap(group => group.tests.map(test => [test.id, test])))
  const outcome = id => {
    const result = results[id]
    if (result === undefined) return { failed: 'not run', reason: '' }
    const missing = (tests.get(id).depends_on ?? []).find(other => outcome(other).failed)
    if (missing) return { failed: 'dependency', reason: missing }
    return result === true ? {} : { failed: result[0].toLowerCase(), reason: result[1] }
  }
  const kinds = ['required', 'optimal', 'check']
  const total = Object.fromEntries(kinds.map(kind => [kind, { passed: 0, of: 0 }]))
  const failures = []
  console.log(['suite'.padEnd(20), ...kinds.map(kind => kind.padStart(10))].join(''))
  for (const group of groups) {
    const count = Object.fromEntries(kinds.map(kind => [kind, { passed: 0, of: 0 }]))
    for (const test of group.tests) {
      if (results[test.id] === undefined) continue // for browsers
      const kind = test.kind ?? 'required'
      const { failed, reason } = outcome(test.id)
      for (const sum of [count[kind], total[kind]]) {
        sum.of += 1
        sum.passed += failed ? 0 : 1
      }
      if (failed) failures.push(`${kind.padEnd(9)} ${group.id}/${test.id}: ${failed}: ${reason}`)
    }
    console.log(line(group.id, count))
  }
  console.log(line('all', total))
  console.log(`\nnot passed ("check" asks what a cache does, and either answer is allowed):`)
  for (const kind of kinds) failures.filter(failure => failure.startsWith(kind)).forEach(failure => console.log(failure))

  function line (name, count) {
    const cell = ({ passed, of }) => (of === 0 ? '' : `${passed}/${of}`).padStart(10)
    return name.padEnd(20) + kinds.map(kind => cell(count[kind])).join('')
  }
}
