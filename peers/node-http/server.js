// Node's own http server, ended by server.close() as its documentation has it.
'use strict'

const http = require('node:http')
const { WebSocketServer } = require('ws')

const port = Number(process.env.PORT ?? 8080)
const grace = Number(process.env.GRACE ?? 30) * 1000
const best = process.env.SETTINGS === 'best'
const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const paths = {
  'GET /': (query, request, response) => response.end('ok'),

  'GET /sleep': async (query, request, response) => {
    await after(query.get('ms'))
    response.end('slept')
  },

  'GET /block': (query, request, response) => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(query.get('ms')))
    response.end('slept')
  },

  'GET /stream': async (query, request, response) => {
    const ms = Number(query.get('ms'))
    for (let n = 0; n < Number(query.get('chunks')); n++) {
      if (ms > 0) await after(ms)
      if (!response.write(`chunk${n}\n`)) await new Promise((resolve) => response.once('drain', resolve))
    }
    response.end()
  },

  'GET /sse': (query, request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const ticks = setInterval(() => response.write('data: x\n\n'), 100)
    response.on('close', () => clearInterval(ticks))
  },

  'POST /echo': async (query, request, response) => {
    let length = 0
    for await (const piece of request) length += piece.length
    response.end(String(length))
  },

  'POST /task': (query, request, response) => {
    // A timer keeps the event loop, and so the process: nothing else is needed to see it through.
    setTimeout(() => console.log('task done'), query.get('ms'))
    response.writeHead(202).end()
  }
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost')
  const answer = paths[`${request.method} ${url.pathname}`]
  if (answer === undefined) return response.writeHead(404).end()
  // A client that is gone in the middle of its upload throws in here.
  Promise.resolve(answer(url.searchParams, request, response)).catch(() => response.destroy())
})

const sockets = new WebSocketServer({ noServer: true })
sockets.on('connection', (socket) => {
  socket.on('error', () => {})
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
})
server.on('upgrade', (request, socket, head) => {
  if (request.url !== '/ws') return socket.end('HTTP/1.1 404 Not Found\r\n\r\n')
  sockets.handleUpgrade(request, socket, head, (upgraded) => sockets.emit('connection', upgraded))
})

// Without a handler, the signal ends the process at once: that is the default.
if (best) {
  const end = () => {
    server.close()
    setTimeout(() => {
      server.closeAllConnections()
      process.exit(1)
    }, grace).unref()
  }
  process.once('SIGTERM', end)
  process.once('SIGINT', end)
}

server.listen(port, '127.0.0.1')
