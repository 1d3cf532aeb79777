// The suite's own origin, on loopback alone (it would listen on every interface): node origin.mjs SUITE_FOLDER PORT

import { Server } from 'node:net'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, port] = process.argv.slice(2)
Object.assign(process.env, { npm_config_protocol: 'http', npm_config_port: port, npm_config_pidfile: '/dev/null' })

const listen = Server.prototype.listen
Server.prototype.listen = function (port) {
  return listen.call(this, Number(port), '127.0.0.1')
}
console.log = () => {} // it tells of every request that it didn't expect
await import(pathToFileURL(join(resolve(folder), 'server/server.mjs')).href)
