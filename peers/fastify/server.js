// Fastify, ended by close-with-grace and fastify.close().
'use strict'

const { Readable } = require('node:stream')
const closeWithGrace = require('close-with-grace')
const fastify = require('fastify')
const websocket = require('@fastify/websocket')

const port = Number(process.env.PORT ?? 8080)
const grace = Number(process.env.GRACE ?? 30) * 1000
const best = process.env.SETTINGS === 'best'
const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function * chunks (count, ms) {
  for (let n = 0; n < count; n++) {
    if (ms > 0) await after(ms)
    yield `chunk${n}\n`
  }
}

async function * ticks () {
  for (;;) {
    yield 'data: x\n\n'
    await after(100)
  }
}

async function start () {
  const app = fastify()
  await app.register(websocket)

  // Bodies of any type reach the handler as a stream.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (request, payload, done) => done(null, payload))

  app.get('/', async () => 'ok')
  app.get('/sleep', async (request) => {
    await after(request.query.ms)
    return 'slept'
  })
  app.get('/block', async (request) => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(request.query.ms))
    return 'slept'
  })
  app.get('/stream', (request, reply) => {
    reply.send(Readable.from(chunks(Number(request.query.chunks), Number(request.query.ms))))
  })
  app.get('/sse', (request, reply) => {
    reply.type('text/event-stream').send(Readable.from(ticks()))
  })
  app.post('/echo', async (request) => {
    let length = 0
    if (request.body) for await (const piece of request.body) length += piece.length
    return String(length)
  })
  app.get('/ws', { websocket: true }, (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  app.get('/panic', async () => { throw new Error('as asked by GET /panic') })

  // Without it, the signal ends the process at once: that is the default.
  if (best) {
    closeWithGrace({ delay: grace }, async ({ err }) => {
      if (err) console.error(err)
      await app.close()
    })
  }
  await app.listen({ port, host: '127.0.0.1' })
}

start()
