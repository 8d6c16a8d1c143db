module glidepath/peers/go

go 1.27

require github.com/gorilla/websocket v1.5.0

// Debian's package of it, unpacked by `cargo xtask peers`.
replace github.com/gorilla/websocket => ../../target/peers/go/usr/share/gocode/src/github.com/gorilla/websocket
