// kt: a static test tool for pods:
//
//	kt serve ADDR DIR | kt get URL [N] | kt ask URL | kt dns NAME | kt outage QUIET LIMIT PATH HOST:PORT...
//
// get prints the bodies of N answers; ask prints the status of one and the first 600 bytes of its body, in one line;
// outage measures for how long an object store serves nobody (outage.go).
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	a := os.Args
	switch {
	case len(a) >= 4 && a[1] == "serve":
		h, _ := os.Hostname()
		mux := http.NewServeMux()
		mux.HandleFunc("/hostname", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, h) })
		mux.Handle("/", http.FileServer(http.Dir(a[3])))
		s := &http.Server{Addr: a[2], Handler: mux}
		go func() {
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGTERM)
			<-c
			s.Shutdown(context.Background())
		}()
		fmt.Println(h, "listening on", a[2])
		fmt.Println(s.ListenAndServe())
	case len(a) >= 3 && a[1] == "get":
		n := 1
		if len(a) > 3 {
			n, _ = strconv.Atoi(a[3])
		}
		t := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		c := &http.Client{Timeout: 3 * time.Second, Transport: t}
		bad := 0
		for i := 0; i < n; i++ {
			r, err := c.Get(a[2])
			if err != nil {
				fmt.Println("ERR", err)
				bad++
				continue
			}
			io.Copy(os.Stdout, r.Body)
			r.Body.Close()
		}
		if bad > 0 {
			os.Exit(1)
		}
	case len(a) >= 3 && a[1] == "ask":
		c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		r, err := c.Get(a[2])
		if err != nil {
			fmt.Println("ERR", err)
			os.Exit(1)
		}
		body, _ := io.ReadAll(io.LimitReader(r.Body, 600))
		r.Body.Close()
		fmt.Println(r.StatusCode, strings.Join(strings.Fields(string(body)), " "))
	case len(a) >= 6 && a[1] == "outage":
		quiet, _ := time.ParseDuration(a[2])
		limit, _ := time.ParseDuration(a[3])
		measure(quiet, limit, a[4], a[5:])
	case len(a) >= 3 && a[1] == "dns":
		r, err := net.LookupHost(a[2])
		fmt.Println(r, err)
		if _, s, err := net.LookupSRV("", "", a[2]); err == nil {
			for _, x := range s {
				fmt.Println("SRV", x.Target, x.Port)
			}
		}
	}
}
