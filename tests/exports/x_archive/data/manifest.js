window.__THAR_CONFIG = {
 "userInfo": {
  "accountId": "5000",
  "userName": "acme",
  "displayName": "Acme Boxes"
 },
 "archiveInfo": {
  "sizeBytes": "1",
  "generationDate": "2024-03-06T10:00:00.000Z",
  "isPartialArchive": false,
  "maxPartSizeBytes": "53687091200"
 },
 "dataTypes": {
  "tweets": {
   "mediaDirectory": "data/tweets_media",
   "files": [
    {
     "fileName": "data/tweets.js",
     "globalName": "YTD.tweets.part0",
     "count": "6"
    },
    {
     "fileName": "data/tweets-part1.js",
     "globalName": "YTD.tweets.part1",
     "count": "4"
    },
    {
     "fileName": "data/tweets-part2.js",
     "globalName": "YTD.tweets.part2",
     "count": "2"
    }
   ]
  },
  "noteTweet": {
   "files": [
    {
     "fileName": "data/note-tweet.js",
     "globalName": "YTD.note_tweet.part0",
     "count": "2"
    }
   ]
  },
  "like": {
   "files": [
    {
     "fileName": "data/like.js",
     "globalName": "YTD.like.part0",
     "count": "2"
    }
   ]
  },
  "follower": {
   "files": [
    {
     "fileName": "data/follower.js",
     "globalName": "YTD.follower.part0",
     "count": "2"
    }
   ]
  },
  "following": {
   "files": [
    {
     "fileName": "data/following.js",
     "globalName": "YTD.following.part0",
     "count": "1"
    }
   ]
  },
  "deletedTweets": {
   "files": [
    {
     "fileName": "data/deleted-tweets.js",
     "globalName": "YTD.deleted_tweets.part0",
     "count": "1"
    }
   ]
  },
  "communityTweet": {
   "files": [
    {
     "fileName": "data/community-tweet.js",
     "globalName": "YTD.community_tweet.part0",
     "count": "1"
    }
   ]
  },
  "directMessages": {
   "files": [
    {
     "fileName": "data/direct-messages.js",
     "globalName": "YTD.direct_messages.part0",
     "count": "1"
    }
   ]
  },
  "directMessagesGroup": {
   "files": [
    {
     "fileName": "data/direct-messages-group.js",
     "globalName": "YTD.direct_messages_group.part0",
     "count": "1"
    }
   ]
  }
 }
}