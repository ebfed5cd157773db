package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"
)

// One read and one write were begun at this moment; the answer of any endpoint counts.
type tick struct {
	at          time.Time
	read, wrote bool
}

type outage struct {
	// seconds since the first tick at which both worked, and how long it was until both worked again
	From    float64 `json:"from"`
	Seconds float64 `json:"seconds"`
}

const (
	every = 100 * time.Millisecond
	// an answer that takes longer is none; clients of S3 are no less patient
	patience = 5 * time.Second
	// the time after which the other endpoints are asked as well
	hesitation = 500 * time.Millisecond
	// no restart of servers is shorter, hiccups are
	restart = time.Second
)

// measure reads the object at path and writes one beside it ten times a second, through whichever endpoint (HOST:PORT)
// answers, from when both work until they worked for `quiet` after having failed for a second or longer, or until `limit`
// has passed. It prints "serving" at the beginning, and in the end what it saw as JSON.
func measure(quiet, limit time.Duration, path string, endpoints []string) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, url string) bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var body io.Reader
		if method == http.MethodPut {
			body = strings.NewReader("written by kt outage")
		}
		r, err := http.NewRequestWithContext(ctx, method, url, body)
		if err != nil {
			return false
		}
		answer, err := client.Do(r)
		if err != nil {
			return false
		}
		_, err = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		return err == nil && answer.StatusCode == http.StatusOK
	}
	var (
		mu    sync.Mutex
		ticks []*tick
	)
	// through asks the endpoint that answered last, and all others as well if it fails or hesitates
	through := func(last int, method string, object func(endpoint int) string) (int, bool) {
		answers := make(chan int, len(endpoints))
		try := func(i int) {
			if ask(method, "http://"+endpoints[i]+object(i)) {
				answers <- i
			} else {
				answers <- -1
			}
		}
		go try(last)
		open, others := 1, time.After(hesitation)
		for first := true; open > 0; first = false {
			select {
			case <-others:
			case i := <-answers:
				open--
				if i >= 0 {
					return i, true
				}
			}
			if first {
				for i := range endpoints {
					if i != last {
						open++
						go try(i)
					}
				}
				others = nil
			}
		}
		return last, false
	}
	// one of each kind at a time, or a machine that is slow would be asked ever more: a moment at which one is under way
	// shares its fate
	worker := func(method string, object func(endpoint int) string, worked func(*tick) *bool) func(*tick) {
		var waiting []*tick
		last, busy := 0, false
		work := func() {
			for {
				mu.Lock()
				mine, from := waiting, last
				waiting, busy = nil, len(mine) > 0
				mu.Unlock()
				if len(mine) == 0 {
					return
				}
				i, ok := through(from, method, object)
				mu.Lock()
				mine = append(mine, waiting...)
				waiting, last = nil, i
				for _, t := range mine {
					*worked(t) = ok
				}
				mu.Unlock()
			}
		}
		return func(t *tick) {
			mu.Lock()
			waiting = append(waiting, t)
			idle := !busy
			busy = true
			mu.Unlock()
			if idle {
				go work()
			}
		}
	}
	for !ask(http.MethodGet, "http://"+endpoints[0]+path) || !ask(http.MethodPut, "http://"+endpoints[0]+path+"-written") {
		time.Sleep(every)
	}
	fmt.Println("serving")
	writes := 0
	read := worker(http.MethodGet, func(int) string { return path }, func(t *tick) *bool { return &t.read })
	// an object of its own, for writers of the same one wait for each other
	write := worker(http.MethodPut, func(i int) string {
		mu.Lock()
		defer mu.Unlock()
		writes++
		return fmt.Sprintf("%s-%d-%d", path, writes%50, i)
	}, func(t *tick) *bool { return &t.wrote })
	start := time.Now()
	for clock := time.NewTicker(every); ; <-clock.C {
		now := time.Now()
		t := &tick{at: now}
		read(t)
		write(t)
		mu.Lock()
		ticks = append(ticks, t)
		seen, outages, badReads, badWrites := summary(ticks, now)
		mu.Unlock()
		calm, end := false, 0.0
		for _, o := range outages {
			end = o.From + o.Seconds
			calm = calm || o.Seconds >= restart.Seconds()
		}
		calm = calm && now.Sub(ticks[0].at).Seconds()-end > (quiet+patience).Seconds()
		if calm || now.Sub(start) > limit {
			longest, total := 0.0, 0.0
			for i, o := range outages {
				outages[i] = outage{rounded(o.From), rounded(o.Seconds)}
				longest, total = max(longest, o.Seconds), total+o.Seconds
			}
			text, _ := json.Marshal(map[string]any{"polls": seen, "failedReads": badReads, "failedWrites": badWrites, "outages": outages, "longest": rounded(longest), "total": rounded(total)})
			fmt.Println(string(text))
			return
		}
	}
}

// summary looks at the ticks whose answers must have come by now: how many, the stretches in which a read or a write
// failed everywhere (the last one may still go on, and then counts until now), and the failures of each kind.
func summary(ticks []*tick, now time.Time) (seen int, outages []outage, reads, writes int) {
	outages = []outage{}
	down := false
	for _, t := range ticks {
		if now.Sub(t.at) <= patience+hesitation+every {
			break
		}
		since := t.at.Sub(ticks[0].at).Seconds()
		seen++
		if !t.read {
			reads++
		}
		if !t.wrote {
			writes++
		}
		if good := t.read && t.wrote; good {
			if down {
				outages[len(outages)-1].Seconds = since - outages[len(outages)-1].From
			}
			down = false
		} else if !down {
			down = true
			outages = append(outages, outage{From: since})
		}
	}
	if down {
		outages[len(outages)-1].Seconds = now.Sub(ticks[0].at).Seconds() - outages[len(outages)-1].From
	}
	return seen, outages, reads, writes
}

func rounded(seconds float64) float64 { return math.Round(seconds*10) / 10 }
