// Package sdk is what the clients on the Go SDKs of KES have in common: a table of verbs becomes a command line.
//
// Usage: PROGRAM VERB [ARGUMENT...]; one JSON value on standard output, or an error on standard error and exit code 1.
// Environment: KES_SERVER, KES_CA, KES_ENCLAVE, and KES_API_KEY or KES_CLIENT_CERT and KES_CLIENT_KEY.
// The SDKs are AGPL: the programs are built and run by tests, and are no part of the product.
package sdk

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Verbs are methods of a client C by the names we give them. Missing arguments are empty.
type Verbs[C any] map[string]func(ctx context.Context, client C, arguments []string) (any, error)

// Object is a JSON object.
type Object = map[string]any

// Program is one SDK.
type Program[C any] struct {
	Verbs Verbs[C]
	// Client makes a client of a server, and of an enclave when that is not empty.
	Client func(server, enclave string, config *tls.Config) C
	// Certificate makes a certificate from an API key.
	Certificate func(apiKey string) (tls.Certificate, error)
	// Typed are the errors that Go programs compare with, by name.
	Typed map[string]error
}

// Main runs the verb on the command line.
func (p Program[C]) Main() {
	if err := p.run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", p.Told(err))
		os.Exit(1)
	}
}

// Told is an error with its status and, as Go programs compare them, its name.
func (p Program[C]) Told(err error) string {
	text := err.Error()
	var answered interface{ Status() int }
	if errors.As(err, &answered) {
		text = fmt.Sprintf("%d %s", answered.Status(), text)
	}
	for name, known := range p.Typed {
		if errors.Is(err, known) {
			text += " (" + name + ")"
		}
	}
	return text
}

func (p Program[C]) run(arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("no verb is given")
	}
	verb, ok := p.Verbs[arguments[0]]
	if !ok {
		return fmt.Errorf("unknown verb %q", arguments[0])
	}
	config, err := p.configuration()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := p.Client(os.Getenv("KES_SERVER"), os.Getenv("KES_ENCLAVE"), config)
	result, err := verb(ctx, client, append(arguments[1:], "", "", ""))
	if err != nil || result == nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	return out.Encode(result)
}

func (p Program[C]) configuration() (*tls.Config, error) {
	ca, err := os.ReadFile(os.Getenv("KES_CA"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	var certificate tls.Certificate
	if key := os.Getenv("KES_API_KEY"); key != "" && p.Certificate != nil {
		certificate, err = p.Certificate(key)
	} else {
		certificate, err = tls.LoadX509KeyPair(os.Getenv("KES_CLIENT_CERT"), os.Getenv("KES_CLIENT_KEY"))
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}}, err
}

// Done is the result of a call that tells nothing but whether it worked.
func Done(err error) (any, error) { return nil, err }

// All collects what an iterator gives until its io.EOF.
func All[T any](ctx context.Context, seek func(context.Context, string) (T, error), next func(context.Context) (T, error), prefix string) (any, error) {
	found := []T{}
	item, err := seek(ctx, prefix)
	for ; err == nil; item, err = next(ctx) {
		found = append(found, item)
	}
	if err != io.EOF {
		return nil, err
	}
	return found, nil
}

// Repeat calls until it is cancelled, so that an audit stream has something to tell: its answer may come with its first event.
func Repeat(ctx context.Context, call func(context.Context)) context.CancelFunc {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for ctx.Err() == nil {
			call(ctx)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return cancel
}
