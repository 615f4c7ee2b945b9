package control

import (
	"slices"
	"strconv"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/pagetoken"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// pageSize is the page a request gets that asks for none or for more; the live default is not
// known (spec/api.md 1.5).
const pageSize = 50

// listing is one list request: its page, and the tokens that lead from page to page.
type listing struct {
	codec *pagetoken.Codec
	scope pagetoken.Listing
	page  store.Page
}

// listing reads the page of a list request. filters is everything that decides which items are listed.
func (s *Service) listing(c awsapi.Caller, operation string, filters map[string]string, maxResults *int32, token *string) (listing, error) {
	return s.listingFrom("nextToken", c, operation, filters, maxResults, token)
}

// listingFrom is listing for operations whose token has another name.
func (s *Service) listingFrom(member string, c awsapi.Caller, operation string, filters map[string]string, maxResults *int32, token *string) (listing, error) {
	l := listing{
		codec: s.pages,
		scope: pagetoken.Listing{Operation: operation, Account: c.AccountID, Region: c.Region, Filters: filters},
		page:  store.Page{Limit: pageSize},
	}
	if maxResults != nil {
		l.page.Limit = min(int(*maxResults), pageSize)
	}
	if token == nil || *token == "" {
		return l, nil
	}
	cursor, err := l.codec.Open(l.scope, *token)
	if err == nil {
		l.page.After, err = strconv.ParseInt(cursor, 10, 64)
	}
	if err != nil {
		return listing{}, awsapi.Validation("Invalid %s", member).WithCause(err)
	}
	return l, nil
}

// next is the token of the page after cursor, nil at the end of the list.
func (l listing) next(cursor int64) *string {
	if cursor == 0 {
		return nil
	}
	token := l.codec.Seal(l.scope, strconv.FormatInt(cursor, 10))
	return &token
}

// cut takes the page out of a list that is not in the store and never changes.
func cut[T any](l listing, all []T) ([]T, *string) {
	from := min(int(l.page.After), len(all))
	to := min(from+l.page.Limit, len(all))
	if to == len(all) {
		return all[from:], nil
	}
	return slices.Clip(all[from:to]), l.next(int64(to))
}

// wire turns rows into items.
func wire[Row, Item any](rows []Row, item func(Row) Item) []Item {
	items := make([]Item, len(rows))
	for i, row := range rows {
		items[i] = item(row)
	}
	return items
}
