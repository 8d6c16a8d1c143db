// Go's net/http, ended by Server.Shutdown as its documentation's example does.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

func main() {
	servers := []*http.Server{{Addr: address("PORT", "8080"), Handler: paths(), Protocols: protocols()}}
	go serve(servers[0], servers[0].ListenAndServe)
	if os.Getenv("TLS_PORT") != "" {
		config := &tls.Config{Certificates: []tls.Certificate{certificate()}}
		server := &http.Server{Addr: address("TLS_PORT", ""), Handler: paths(), TLSConfig: config}
		servers = append(servers, server)
		go serve(server, func() error { return server.ListenAndServeTLS("", "") })
	}
	if os.Getenv("SETTINGS") != "best" {
		select {} // Nobody listens for the signal: it ends the process as it ends any.
	}

	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM)
	<-told
	within, cancel := context.WithTimeout(context.Background(), time.Duration(number(os.Getenv("GRACE"), 30))*time.Second)
	defer cancel()
	ended := make(chan error)
	for _, server := range servers {
		go func() { ended <- server.Shutdown(within) }()
	}
	failed := false
	for range servers {
		if err := <-ended; err != nil {
			log.Printf("Shutdown: %v", err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

func serve(server *http.Server, listen func() error) {
	if err := listen(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// HTTP/1.1 and HTTP/2 with prior knowledge on one port.
func protocols() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func address(name, otherwise string) string {
	port := os.Getenv(name)
	if port == "" {
		port = otherwise
	}
	return "127.0.0.1:" + port
}

func number(text string, otherwise int) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return otherwise
}

func milliseconds(request *http.Request) time.Duration {
	return time.Duration(number(request.FormValue("ms"), 0)) * time.Millisecond
}

// The contract's paths, but for /task: net/http knows of no tasks.
func paths() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("GET /sleep", sleep)
	// A handler has a goroutine, and this blocks no other: there is nothing else to block.
	mux.HandleFunc("GET /block", sleep)
	mux.HandleFunc("GET /stream", stream)
	mux.HandleFunc("GET /sse", events)
	mux.HandleFunc("POST /echo", echo)
	mux.HandleFunc("GET /ws", messages)
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("as asked by GET /panic") })
	return mux
}

func sleep(w http.ResponseWriter, request *http.Request) {
	time.Sleep(milliseconds(request))
	io.WriteString(w, "slept")
}

func stream(w http.ResponseWriter, request *http.Request) {
	flush := http.NewResponseController(w)
	for n := range number(request.FormValue("chunks"), 0) {
		time.Sleep(milliseconds(request))
		fmt.Fprintf(w, "chunk%d\n", n)
		if flush.Flush() != nil {
			return
		}
	}
}

func events(w http.ResponseWriter, request *http.Request) {
	flush := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	for request.Context().Err() == nil {
		io.WriteString(w, "data: x\n\n")
		if flush.Flush() != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func echo(w http.ResponseWriter, request *http.Request) {
	length, err := io.Copy(io.Discard, request.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, length)
}

func messages(w http.ResponseWriter, request *http.Request) {
	var upgrader websocket.Upgrader
	connection, err := upgrader.Upgrade(w, request, nil)
	if err != nil {
		return
	}
	defer connection.Close()
	for {
		kind, message, err := connection.ReadMessage()
		if err != nil {
			return
		}
		if connection.WriteMessage(kind, message) != nil {
			return
		}
	}
}

// One that no client trusts unless told to.
func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	now := time.Now()
	form := x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		DNSNames:     []string{"localhost"},
	}
	made, err := x509.CreateCertificate(rand.Reader, &form, &form, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{made}, PrivateKey: key}
}
